"""What a user may write in a sweep file, how it is read, and the cells that it stands for."""
