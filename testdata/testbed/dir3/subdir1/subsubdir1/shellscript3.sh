#!/bin/sh
echo "Shell script 3"
