"""Pure computing: a model's specification, a volume in, labels and measurements out."""
