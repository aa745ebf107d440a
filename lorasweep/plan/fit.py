"""What it costs an image to fit its bucket: shape, pixels, sharpness. Arithmetic on planned images."""

from __future__ import annotations

from lorasweep.core.records import PlannedImage


def aspect_error(image: PlannedImage) -> float:
    """|width / height of the bucket - width / height of the image|, as kohya's `mean_img_ar_error` has it."""
    return abs(image.bucket.width_px / image.bucket.height_px - image.width_px / image.height_px)


def cropped_share(image: PlannedImage) -> float:
    """Share of the resized image's area that the crop leaves out."""
    return 1 - image.bucket.width_px * image.bucket.height_px / (image.resize_px[0] * image.resize_px[1])


def enlargement(image: PlannedImage) -> float:
    """Pixels per pixel of the file, along a side."""
    return image.resize_px[0] / image.width_px
