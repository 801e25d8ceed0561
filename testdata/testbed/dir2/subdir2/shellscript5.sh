#!/bin/sh
echo "Shell script 5"
