"""How files of images end, in small letters; apart from what opens them, which takes a while."""

LOSSLESS_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
PICTURE_SUFFIXES = (*LOSSLESS_SUFFIXES, ".jpg", ".jpeg")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
