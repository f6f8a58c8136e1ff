"""The Runtime port for real, and the images that containers start from."""
