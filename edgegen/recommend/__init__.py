"""Recommenders and the evidence they give. So far: sorting a product's evidence by the recommender it comes from."""
