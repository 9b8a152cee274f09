//! Antialiased resizing to a short side and the crop from the middle, with the rounding of Pillow and torchvision.
