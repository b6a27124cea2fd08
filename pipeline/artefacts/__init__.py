"""The records that stages hand each other: a frozen class and a file for each."""
