"""What the kernel hands to user space: vDSO, root file-system images."""
