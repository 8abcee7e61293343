"""The command ``birq``: one file for each group of its commands."""
