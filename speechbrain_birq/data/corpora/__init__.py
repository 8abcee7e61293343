"""Corpora: from the layout of a publisher to manifests; one file or folder each."""
