"""From recordings to a corpus: what is cut, judged, recognised and left out, and a store of what is kept."""
