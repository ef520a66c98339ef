"""What the performance claims are measured with: see README.md in this folder, and run `python -m bench`."""
