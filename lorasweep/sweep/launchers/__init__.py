"""Where workers live, one module each: `build(options: PoolOptions) -> WorkerPool`, or what behaves like one."""
