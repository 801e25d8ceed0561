#!/bin/sh
echo "Shell script 1"
