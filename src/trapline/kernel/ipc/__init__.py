"""Objects that tasks talk through: pipes, futexes, event descriptors."""
