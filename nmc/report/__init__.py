"""What nmc tells about itself and its results: error codes, reports."""
