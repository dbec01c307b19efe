"""The web page of `trapline explore`: what a kernel does, or did, in a browser on the same computer.

In a nutshell: `feed` listens to the kernel and answers questions on its thread; `server`, a process of its own, keeps what it
is told in a bounded `hub` and serves it, with the files in static/, to whoever has the token (`guard`); `saved` fills a
hub from a trace. Between kernel and server is one socket (`wire`), on which the kernel never waits.
"""
