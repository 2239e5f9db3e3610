"""The suite; its folders are named by what they need: unit and meta need nothing."""
