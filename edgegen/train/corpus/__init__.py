"""The corpus: made-up shops, sentence plans, and the pairs composed of them."""
