"""POSIX message queues, mq_overview(7): named queues of messages with priorities, as files of a file system of their own."""
