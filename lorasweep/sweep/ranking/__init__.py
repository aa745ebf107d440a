"""Where the trials of a sweep stand, and how sure that is: snapshots, leaderboard, noise floor. No torch."""
