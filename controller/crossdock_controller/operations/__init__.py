"""The operations of the API: what each is, who may do it, and the one place where that is decided."""
