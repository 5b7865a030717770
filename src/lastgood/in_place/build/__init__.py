"""The build of a restore point in staging schemas, and its proof."""
