"""The commands of `clinfer`, one file each; nothing here computes."""
