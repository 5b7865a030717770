"""Going back in place: the objects of schemas are exchanged inside one database that cannot be renamed."""
