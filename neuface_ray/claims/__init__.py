"""The papers' comparisons and our own, each one command: methods are run on truth and what they promise is checked."""
