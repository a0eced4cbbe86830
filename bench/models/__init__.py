"""Base models: `locate` finds them, `load` loads them, `dtype` and `device` say in what and where they compute, `hooks`
change their forward pass, and `compat` holds every use of a library's private parts."""
