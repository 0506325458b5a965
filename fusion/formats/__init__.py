"""What is written: a segmentation → COCO instances, panoptic and semantic PNGs, polygons, overlays, the report."""
