"""The configuration: a tree of YAML files in, a Runtime or every problem with its file and line out."""
