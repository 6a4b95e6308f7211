"""The backends that ship with facesyn, registered only through entry points, as a stranger's would be."""
