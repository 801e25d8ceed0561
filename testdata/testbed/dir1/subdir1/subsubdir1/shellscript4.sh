#!/bin/sh
echo "Shell script 4"
