"""What a run will need, told before it starts: memory, arithmetic, time, disk, and whether a cache pays."""
