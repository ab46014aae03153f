"""From a recipe to a run: train or find the teacher, train the students, record, report, write the cards."""
