"""Running a sweep until its contrasts are told: what a look decides, which cells follow, and how many to expect."""
