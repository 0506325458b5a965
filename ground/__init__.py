"""What every package stands on: images, files, versions. It imports none of the others."""
