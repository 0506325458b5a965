"""What every package stands on: checks of settings, presets, images, files, devices, weights, versions.

It imports none of the other packages, and each module loads only the libraries that it needs itself.
"""
