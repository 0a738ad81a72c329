"""What reading a table needs beyond the source itself: dialects, statements, cursors, the look-back window, rows."""
