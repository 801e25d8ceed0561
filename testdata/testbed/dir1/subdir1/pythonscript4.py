#!/usr/bin/env python3
print("Python script 4")
