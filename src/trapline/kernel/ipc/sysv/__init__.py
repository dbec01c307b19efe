"""System V IPC, svipc(7): shared memory, semaphores and message queues, known by keys and identifiers."""
