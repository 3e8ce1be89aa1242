"""A retailer's texts as pairs to train on: read, slots put in, checked against their facts, split, reported.

`run.prepare` does it all. The rest is by name: `rows` and `drafts` read files, `representation` and `attributes` know two
notations of facts, `forms` and `matching` find values, `texts` and `cleaning` decide, `duplicates` and `splits` look across
pairs, `report` and `page` tell.
"""
