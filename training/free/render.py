"""Views of a textured 3D model: a Wavefront OBJ → many points on its surface → an RGBA image from any side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

# Of the light on a surface, how much comes from all sides.
AMBIENT = 0.5
# A point that lies so much of the model's depth behind its neighbours is hidden by them.
BEHIND = 0.03
# The camera is so many times the model's diagonal away.
DISTANCE = 2.2


@dataclass(frozen=True, eq=False)
class Points:
    """N points on the surface of a model, evenly spread; y is up and the front looks along +z."""

    places: np.ndarray  # (N, 3) float32, in units of the model
    normals: np.ndarray  # (N, 3) float32, unit vectors of either sign
    colours: np.ndarray  # (N, 3) uint8


@dataclass
class Material:
    """How a surface looks: a colour, how opaque it is, and an image that is spread over it."""

    colour: tuple[float, float, float] = (0.8, 0.8, 0.8)  # red, green, blue, 0 to 1
    opacity: float = 1.0
    image: str = ""  # file name, as the MTL file gives it; empty without


@dataclass
class Mesh:
    """Triangles of an OBJ file; indices count from 0."""

    vertices: np.ndarray  # (V, 3) float32
    texture: np.ndarray  # (T, 2) float32: u, v; v points up
    corners: np.ndarray  # (F, 3) int: vertices
    texture_corners: np.ndarray  # (F, 3) int: rows of `texture`, -1 without
    materials: np.ndarray  # (F,) int: of `names`
    names: list[str] = field(default_factory=list)


def read_obj(text: str) -> Mesh:
    """The triangles of a Wavefront OBJ file; polygons become fans. ValueError if it has none."""
    vertices: list[list[float]] = []
    texture: list[list[float]] = []
    faces: list[tuple[list[int], list[int], int]] = []
    names: list[str] = [""]
    material = 0
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(number) for number in rest.split()[:3]])
        elif kind == "vt":
            texture.append([float(number) for number in rest.split()[:2]])
        elif kind == "usemtl":
            name = rest.strip()
            if name not in names:
                names.append(name)
            material = names.index(name)
        elif kind == "f":
            corners = [corner.split("/") for corner in rest.split()]
            places = [_index(corner[0], len(vertices)) for corner in corners]
            on_texture = [_index(corner[1] if len(corner) > 1 else "", len(texture)) for corner in corners]
            for second in range(1, len(corners) - 1):
                fan = (0, second, second + 1)
                faces.append(([places[i] for i in fan], [on_texture[i] for i in fan], material))
    if not faces:
        raise ValueError("a model without faces: expected an OBJ file with lines that begin with f")
    corners_of, texture_of, material_of = (np.array(column) for column in zip(*faces, strict=True))
    uv = np.array(texture or [[0.0, 0.0]], np.float32)
    return Mesh(np.array(vertices, np.float32), uv, corners_of, texture_of, material_of, names)


def _index(text: str, count: int) -> int:
    """An OBJ index, which counts from 1, or backwards from the end, as one from 0; -1 without."""
    if not text:
        return -1
    return int(text) - 1 if int(text) > 0 else count + int(text)


def read_mtl(text: str) -> dict[str, Material]:
    """The materials of a Wavefront MTL file by name."""
    materials: dict[str, Material] = {}
    current = Material()
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "newmtl":
            current = materials.setdefault(" ".join(words[1:]), Material())
        elif words[0] == "Kd" and len(words) > 3:
            current.colour = (float(words[1]), float(words[2]), float(words[3]))
        elif words[0] == "d" and len(words) > 1:
            current.opacity = float(words[-1])
        elif words[0] == "map_Kd":
            current.image = words[-1]
    return materials


def sample_points(
    mesh: Mesh,
    materials: dict[str, Material],
    image_of: Callable[[str], np.ndarray | None],
    count: int,
    rng: np.random.Generator,
) -> Points:
    """`count` points, as many to an area anywhere; of a surface of opacity d a share 1 - d is left out.

    `image_of` gives the image (H, W, 3) uint8 of a material by its file name, or None.
    """
    corners = mesh.vertices[mesh.corners]  # F x 3 x 3
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(cross, axis=1)
    opacity = np.array([materials.get(name, Material()).opacity for name in mesh.names])
    weights = areas * opacity[mesh.materials]
    if not weights.sum() > 0:
        raise ValueError("a model without a visible surface: expected faces with an area")
    faces = rng.choice(len(weights), count, p=weights / weights.sum())
    a, b = rng.random((2, count, 1), dtype=np.float32)
    inside = a + b > 1
    a, b = np.where(inside, 1 - a, a), np.where(inside, 1 - b, b)
    places = corners[faces, 0] * (1 - a - b) + corners[faces, 1] * a + corners[faces, 2] * b
    normals = cross[faces] / np.maximum(areas[faces], 1e-12)[:, None]
    uv = mesh.texture[mesh.texture_corners[faces]]  # N x 3 x 2
    on_texture = uv[:, 0] * (1 - a - b) + uv[:, 1] * a + uv[:, 2] * b
    return Points(places, normals.astype(np.float32), _colours(mesh, materials, image_of, faces, on_texture))


def _colours(
    mesh: Mesh,
    materials: dict[str, Material],
    image_of: Callable[[str], np.ndarray | None],
    faces: np.ndarray,
    on_texture: np.ndarray,
) -> np.ndarray:
    colours = np.empty((len(faces), 3), np.uint8)
    textured = (mesh.texture_corners[faces] >= 0).all(axis=1)
    for index, name in enumerate(mesh.names):
        material = materials.get(name, Material())
        own = mesh.materials[faces] == index
        colours[own] = np.clip(np.array(material.colour) * 255, 0, 255).astype(np.uint8)
        image = image_of(material.image) if material.image else None
        if image is not None:
            own &= textured
            height, width = image.shape[:2]
            u, v = on_texture[own].T
            rows, columns = ((1 - v % 1) * height).astype(int) % height, (u % 1 * width).astype(int) % width
            colours[own] = image[rows, columns]
    return colours


def view(points: Points, size: int, turn: float, tilt: float, light: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8: the model from one side, cut to what is visible; the longer side is `size` px.

    `turn` and `tilt` in radians: about the upright axis, and how far the camera looks down. `light` (3,) points to
    the light, as the camera sees it.
    """
    places = points.places - (points.places.min(axis=0) + points.places.max(axis=0)) / 2
    rotation = _about_x(tilt) @ _about_y(turn)
    places = places @ rotation.T
    distance = DISTANCE * np.linalg.norm(np.ptp(points.places, axis=0))
    flat = places[:, :2] / (distance - places[:, 2:]) * [1, -1]
    flat = flat - flat.min(axis=0)
    columns, rows = np.minimum(flat / flat.max() * size, size - 1).astype(int).T
    normals = points.normals @ rotation.T
    facing = normals * np.where(normals[:, 2:] < 0, -1, 1)
    shade = AMBIENT + (1.2 - AMBIENT) * np.clip(facing @ (light / np.linalg.norm(light)), 0, 1)
    image = np.zeros((rows.max() + 1, columns.max() + 1, 4), np.uint8)
    order = np.argsort(places[:, 2])  # the nearest last
    order = order[_in_front(rows[order], columns[order], places[order, 2], image.shape[:2])]
    rows, columns = rows[order], columns[order]
    image[rows, columns, :3] = np.clip(points.colours[order] * shade[order, None], 0, 255)
    image[rows, columns, 3] = 255
    return _without_holes(image)


def _in_front(rows: np.ndarray, columns: np.ndarray, depths: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
    """(N,) bool: which points do not lie behind what is seen beside them; the nearest come last."""
    front = np.full(size_hw, depths.min(), np.float32)
    front[rows, columns] = depths
    nearest = cv2.dilate(front, np.ones((5, 5), np.uint8))
    return depths > nearest[rows, columns] - BEHIND * float(np.ptp(depths))


def _without_holes(image: np.ndarray) -> np.ndarray:
    """Pixels that no point met, amid others, take the colour about them."""
    known = image[..., 3]
    closed = cv2.morphologyEx(known, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    holes = (closed > 0) & (known == 0)
    share = cv2.blur((known > 0).astype(np.float32), (3, 3))[..., None]
    about = cv2.blur(image[..., :3].astype(np.float32), (3, 3)) / np.maximum(share, 1e-3)
    image[holes, :3] = np.clip(about, 0, 255)[holes].astype(np.uint8)
    image[..., 3] = closed
    return image


def _about_y(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)


def _about_x(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
