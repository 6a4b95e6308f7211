"""Reports on finished datasets: a page for people, a card for the hub, signed copies. Changes no picture and no row."""
