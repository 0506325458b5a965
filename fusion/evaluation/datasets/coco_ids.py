"""The ids of COCO-Stuff's classes, from 1, and the groups that it puts them in."""

from __future__ import annotations

NUM_THINGS = 80  # the first of the ids
_NEVER_LABELLED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}  # street sign, hat, shoe, …: planned, and left out
IDS = tuple(id_ for id_ in range(1, 183) if id_ not in _NEVER_LABELLED)  # 171, things first
# Of COCO's panoptic annotations: ids of stuff that are as in COCO-Stuff, and from 184 on those that join several.
PANOPTIC_STUFF = (
    *(92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154),
    *(155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181),
    *range(184, 201),
)
PANOPTIC_IDS = (*IDS[:NUM_THINGS], *PANOPTIC_STUFF)  # 133

# COCO-Stuff's own hierarchy, in the order that unsupervised segmentation numbers it in (IIC, PiCIE, STEGO).
GROUPS = (
    (72, 73, 74, 75, 76, 77),  # electronic devices
    (78, 79, 80, 81, 82),  # kitchen appliances
    (52, 53, 54, 55, 56, 57, 58, 59, 60, 61),  # food
    (62, 63, 64, 65, 67, 70),  # furniture
    (84, 85, 86, 87, 88, 89, 90),  # household items
    (44, 46, 47, 48, 49, 50, 51),  # tableware
    (27, 28, 31, 32, 33),  # bags and what one wears
    (16, 17, 18, 19, 20, 21, 22, 23, 24, 25),  # animals
    (10, 11, 13, 14, 15),  # street furniture
    (1,),  # people
    (34, 35, 36, 37, 38, 39, 40, 41, 42, 43),  # sports
    (2, 3, 4, 5, 6, 7, 8, 9),  # vehicles
    (102, 103),  # ceilings
    (101, 114, 115, 116, 117, 118),  # floors
    (121, 122, 153, 170),  # fruit, vegetables and other food
    (98, 107, 108, 110, 112, 123, 130, 133, 156, 161, 165),  # cabinets, tables, doors
    (100, 132, 139, 143),  # raw materials
    (92, 93, 104, 105, 109, 131, 137, 141, 152, 167, 168),  # textiles
    (171, 172, 173, 174, 175, 176, 177),  # walls
    (180, 181),  # windows
    (95, 96, 128, 151, 158, 166),  # buildings
    (111, 125, 126, 136, 140, 144, 145, 147, 149, 154, 159),  # grounds
    (94, 97, 119, 124, 129, 134, 142, 163, 169),  # plants
    (106, 157),  # skies
    (127, 135, 150, 160, 162, 182),  # solids
    (99, 113, 138, 146, 164),  # structures
    (120, 148, 155, 178, 179),  # waters
)
