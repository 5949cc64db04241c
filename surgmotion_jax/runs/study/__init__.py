"""A study: arms times seeds times strengths of nuisance, each pretrained, evaluated and set between two anchors."""
