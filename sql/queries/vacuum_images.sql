-- Mark the pages of images as visible to all, and remove the index entries of deleted rows. It blocks
-- neither readers nor recorders.
VACUUM images, image_names
