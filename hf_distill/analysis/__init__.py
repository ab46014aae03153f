"""Questions asked of teachers and students: `*_info()` computes numbers, `plot_*()` only draws them."""
