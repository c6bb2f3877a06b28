# restart_on_corruption: the same, where the kernel is told to keep its words at a restart too.
#@ kernels: 6.12
#@ boots: 2
#@ append: printk.always_kmsg_dump=1
taken_down --restart-on-corruption
