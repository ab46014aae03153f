"""Teacher targets paid for once: written to a folder by content address, read in place of the teacher."""
