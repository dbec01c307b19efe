"""Labs: claims about user space and kernel space as experiments. One file is one lab; `framework/` is what they share."""
