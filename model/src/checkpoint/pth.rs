//! Import of PyTorch files (.pth, .pt): zip and legacy formats, read without executing pickle.
