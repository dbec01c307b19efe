"""procfs: processes and the kernel as files, proc(5). `superblock.make` builds one."""
