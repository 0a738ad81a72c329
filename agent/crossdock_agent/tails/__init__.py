"""What a source of growing files needs beside its settings: identity, rotation, turns of reading, the book."""
