"""The page of a run and of a comparison: tables and pictures computed from the run record alone."""
